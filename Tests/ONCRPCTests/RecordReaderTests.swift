// Record marking against a simple model, and what is copied and what is not.

import FaultInjection
import NIOCore
import Platform
import Testing
import XDR

@testable import ONCRPC

@Suite("record marking")
struct RecordReaderTests {
    @Test("records come out as they went in, whatever the fragments and the splits over reads (RFC 5531 §11)")
    func randomSplits() throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<60 {
            let records = (0..<Int.random(in: 1...6, using: &generator)).map { _ in
                generator.bytes([0, 1, 3, 4, 100, 5000, 70_000, 140_000].randomElement(using: &generator)!)
            }
            var stream: [UInt8] = []
            for record in records {
                var rest = record[...]
                while Int.random(in: 0..<3, using: &generator) > 0 {
                    let part = rest.prefix(Int.random(in: 0...max(1, rest.count), using: &generator))
                    stream += fragment(Array(part), isLast: false)
                    rest = rest.dropFirst(part.count)
                }
                stream += fragment(Array(rest))
            }

            var reader = RecordReader(maxRecordBytes: 140_000, maxFragments: 100)
            var received: [[UInt8]] = []
            var rest = stream[...]
            let largestRead = [1, 7, 300, 9000, 100_000, 300_000].randomElement(using: &generator)!
            while !rest.isEmpty {
                let part = rest.prefix(
                    largestRead == 1 && rest.count > 2000 ? 1999 : Int.random(in: 1...largestRead, using: &generator))
                rest = rest.dropFirst(part.count)
                reader.receive(ByteBuffer(bytes: part))
                // Sometimes the connection has no room, and input piles up.
                while Bool.random(using: &generator) || rest.isEmpty {
                    guard let record = try reader.next() else { break }
                    #expect(record.segments.allSatisfy { $0.readableBytes > 0 })
                    let head = min(record.count, RecordAssembly.headBytes)
                    #expect((record.segments.first?.readableBytes ?? 0) >= head, "seed \(seed)")
                    received.append(record.bytes)
                }
            }
            #expect(received == records, "seed \(seed)")
        }
    }

    @Test("a record above the bound is refused when its fragment announces itself")
    func tooLong() throws {
        var reader = RecordReader(maxRecordBytes: 100, maxFragments: 10)
        reader.receive(ByteBuffer(bytes: fragment([UInt8](repeating: 0, count: 60), isLast: false)))
        #expect(try reader.next() == nil)
        reader.receive(ByteBuffer(bytes: words(0x8000_0000 | 40)))
        #expect(try reader.next() == nil)
        reader.receive(ByteBuffer(bytes: [UInt8](repeating: 1, count: 40)))
        #expect(try reader.next()?.count == 100)

        reader.receive(ByteBuffer(bytes: fragment([UInt8](repeating: 0, count: 60), isLast: false)))
        reader.receive(ByteBuffer(bytes: words(41)))
        #expect(throws: RecordReader.Failure.recordTooLong) { try reader.next() }
    }

    @Test("empty fragments are allowed, but not without end")
    func tooManyFragments() throws {
        var reader = RecordReader(maxRecordBytes: 100, maxFragments: 3)
        reader.receive(ByteBuffer(bytes: fragment([], isLast: false) + fragment([], isLast: false) + fragment([7])))
        #expect(try reader.next()?.bytes == [7])
        reader.receive(ByteBuffer(bytes: fragment([]) + (0..<3).flatMap { _ in fragment([], isLast: false) }))
        #expect(try reader.next()?.count == 0)
        #expect(try reader.next() == nil)
        reader.receive(ByteBuffer(bytes: fragment([7])))
        #expect(throws: RecordReader.Failure.tooManyFragments) { try reader.next() }
    }

    @Test("the payload of a large WRITE is not copied: its segments lie in the receive buffers")
    func largePayloadIsShared() throws {
        let payload = [UInt8](repeating: 5, count: 1 << 20)
        let record = callMessage(xid: 1, procedure: 7, arguments: opaque(payload))
        let reads = buffers(fragment(record), of: 256 << 10)
        let addresses = reads.map(address)

        var reader = RecordReader(maxRecordBytes: 2 << 20, maxFragments: 10)
        for read in reads { reader.receive(read) }
        let received = try #require(try reader.next())
        guard case .call(let header) = CallMessage(received) else {
            Issue.record("not a call")
            return
        }
        #expect(header.length == 40)
        let call = RPCCall(
            xid: 1, program: 1, version: 1, procedure: 7, credential: .none, clientAddress: nil, record: received,
            argumentsStart: header.length)
        let range = try call.decodeArguments { decoder throws(XDRError) in
            try decoder.payloadRange(maxCount: 1 << 20)
        }
        let slices = try call.payload(range)
        #expect(slices.count == payload.count)
        // 4 reads of 256 KiB and a last one of 48 bytes, which is small and copied.
        #expect(slices.segments.count == 5)
        #expect(address(slices.segments[0]) == addresses[0] + 48)  // mark, header, count
        for index in 1..<4 { #expect(address(slices.segments[index]) == addresses[index]) }
        #expect(address(slices.segments[4]) != addresses[4])
        #expect(slices.bytes == payload)
        #expect(throws: XDRError.truncated) { try call.payload(range.lowerBound..<call.argumentsCount + 1) }
    }

    @Test("a small record is copied out and doesn't pin the receive buffer")
    func smallRecordIsCopied() throws {
        var read = ByteBufferAllocator().buffer(capacity: 256 << 10)
        let arguments = opaque([UInt8](repeating: 1, count: 5000))
        read.writeBytes(fragment(callMessage(xid: 1, procedure: 7, arguments: arguments)))
        let received = try record(of: [read])
        #expect(received.segments.count == 1)
        #expect(address(received.segments[0]) != address(read) + 4)
        #expect(received.segments[0].storageCapacity < 2 * received.count)
    }

    @Test("a piece that fills less than half of its buffer's storage is copied, however large it is")
    func sparsePieceIsCopied() throws {
        let bytes = fragment([UInt8](repeating: 1, count: 100 << 10))
        var sparse = ByteBufferAllocator().buffer(capacity: 256 << 10)
        sparse.writeBytes(bytes)
        #expect(try record(of: [sparse]).segments.allSatisfy { address($0) != address(sparse) + 4 })
        var dense = ByteBufferAllocator().buffer(capacity: 128 << 10)
        dense.writeBytes(bytes)
        #expect(address(try record(of: [dense]).segments[0]) == address(dense) + 4)
    }

    @Test("many small reads of a large record pin at most twice its size")
    func smallReads() throws {
        let bytes = (0..<(1 << 20)).map { UInt8(truncatingIfNeeded: $0 / 7) }
        for size in [1460, 5000, 40_000, 65_536] {
            let received = try record(of: buffers(fragment(bytes), of: size))
            #expect(received.bytes == bytes)
            #expect(received.segments.reduce(0) { $0 + $1.storageCapacity } <= 2 * bytes.count + (128 << 10))
            #expect(received.segments.count < 20)
        }
    }

    private func record(of reads: [ByteBuffer]) throws -> Payload {
        var reader = RecordReader(maxRecordBytes: 2 << 20, maxFragments: 10)
        for read in reads { reader.receive(read) }
        return try #require(try reader.next())
    }

    private func buffers(_ bytes: [UInt8], of size: Int) -> [ByteBuffer] {
        stride(from: 0, to: bytes.count, by: size).map { start in
            var buffer = ByteBufferAllocator().buffer(capacity: size)
            buffer.writeBytes(bytes[start..<min(bytes.count, start + size)])
            return buffer
        }
    }

    private func address(_ buffer: ByteBuffer) -> Int {
        buffer.withUnsafeReadableBytes { Int(bitPattern: $0.baseAddress) }
    }
}
