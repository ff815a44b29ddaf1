// fattr3, post_op_attr, wcc_data (RFC 1813 §2.6).

internal import FileService
internal import Model
internal import XDR

extension ReplyEncoder {
    /// fattr3: 84 bytes.
    mutating func attributes(_ attributes: FileAttributes) {
        xdr.uint32(UInt32(attributes.type.rawValue))
        xdr.uint32(attributes.mode)
        xdr.uint32(attributes.linkCount)
        xdr.uint32(attributes.uid)
        xdr.uint32(attributes.gid)
        xdr.uint64(attributes.size)
        xdr.uint64(attributes.usedBytes)
        // rdev
        xdr.uint32(attributes.device?.major ?? 0)
        xdr.uint32(attributes.device?.minor ?? 0)
        xdr.uint64(handles.fileSystemID)
        xdr.uint64(attributes.fileID.rawValue)
        time(attributes.accessTime)
        time(attributes.modificationTime)
        time(attributes.changeTime)
    }

    /// post_op_attr: 88 bytes, or 4 without attributes.
    mutating func postOpAttributes(_ attributes: FileAttributes?) {
        xdr.bool(attributes != nil)
        if let attributes { self.attributes(attributes) }
    }

    /// wcc_data of an operation that was atomic with its first attributes.
    mutating func weakCacheConsistency(_ change: AttributeChange) {
        xdr.bool(true)
        xdr.uint64(change.before.size)
        time(change.before.modificationTime)
        time(change.before.changeTime)
        postOpAttributes(change.after)
    }

    /// wcc_data without the attributes before: what a failed operation can say. A client that sees no
    /// "before" drops what it cached when the time has changed, so none is safe and a wrong one is not.
    mutating func weakCacheConsistency(after attributes: FileAttributes?) {
        xdr.bool(false)
        postOpAttributes(attributes)
    }

    /// nfstime3. Its seconds are unsigned, of 32 bits: times before 1970 and after 2106 are shown as the
    /// nearest that there is. The store keeps them as they are.
    private mutating func time(_ time: Timestamp) {
        if time.seconds < 0 {
            xdr.uint32(0)
            xdr.uint32(0)
        } else if time.seconds > Int64(UInt32.max) {
            xdr.uint32(.max)
            xdr.uint32(999_999_999)
        } else {
            xdr.uint32(UInt32(time.seconds))
            xdr.uint32(time.nanoseconds)
        }
    }
}
