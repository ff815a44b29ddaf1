/// Why a store could not be formatted or opened.
public struct StoreRefusal: Error, Sendable, CustomStringConvertible {
    public enum Reason: Sendable {
        /// A directory can't be read.
        case cannotRead
        /// A directory can't be written.
        case notWritable
        /// There is no superblock where one should be.
        case notFormatted
        /// Format of what is formatted already.
        case alreadyFormatted
        /// The volumes can't make a store: too few, or not empty.
        case unusableVolumes
        /// Volumes of different stores.
        case foreign
        /// Made by another version of Sluice.
        case otherVersion
        /// Too many volumes are missing.
        case incomplete
        /// Nothing of the highest epoch is usable.
        case stale
        /// The metadata contradict themselves.
        case damaged
        /// Another process has the store.
        case inUse
    }

    public let reason: Reason
    /// One line for a person.
    public let description: String

    init(_ reason: Reason, _ description: String) {
        self.reason = reason
        self.description = description
    }
}
