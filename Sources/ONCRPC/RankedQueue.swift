// A queue by rank: a binary heap whose members know their places. So one whose rank changes while it waits, or who
// leaves, is found without a search: everything takes O(log n), which matters because these queues are changed with
// each call and under the locks of all connections, and hostile clients decide how long they get.
//
// Invariants: no element precedes the one in front of it, at `(place - 1) / 2`; `elements[place] === element`.

/// What can be in one queue at a time.
protocol Ranked: AnyObject {
    /// Changed by the queue only; nil outside of it.
    var place: Int? { get set }
    /// A strict order. After it has changed for an element in a queue, the queue must be told before anything else.
    func precedes(_ other: Self) -> Bool
}

/// Elements in the order of their rank, as far as to know the first. Not synchronised.
struct RankedQueue<Element: Ranked> {
    private var elements: [Element] = []

    var first: Element? { elements.first }

    /// - Precondition: in no queue.
    mutating func insert(_ element: Element) {
        precondition(element.place == nil, "in a queue already")
        elements.append(element)
        element.place = elements.count - 1
        rankChanged(element)
    }

    /// - Precondition: in this queue.
    mutating func remove(_ element: Element) {
        let place = place(of: element)
        element.place = nil
        let last = elements.removeLast()
        guard last !== element else { return }
        elements[place] = last
        last.place = place
        rankChanged(last)
    }

    /// Finds the place of an element, of which the rank may have changed.
    /// - Precondition: in this queue.
    mutating func rankChanged(_ element: Element) {
        var place = place(of: element)
        while place > 0, element.precedes(elements[(place - 1) / 2]) {
            let front = (place - 1) / 2
            put(elements[front], at: place)
            place = front
        }
        while let next = firstBehind(place), elements[next].precedes(element) {
            put(elements[next], at: place)
            place = next
        }
        put(element, at: place)
    }

    private func firstBehind(_ place: Int) -> Int? {
        let left = 2 * place + 1
        guard left + 1 < elements.count else { return left < elements.count ? left : nil }
        return elements[left + 1].precedes(elements[left]) ? left + 1 : left
    }

    private mutating func put(_ element: Element, at place: Int) {
        elements[place] = element
        element.place = place
    }

    private func place(of element: Element) -> Int {
        guard let place = element.place, place < elements.count, elements[place] === element else {
            preconditionFailure("not in this queue")
        }
        return place
    }
}
