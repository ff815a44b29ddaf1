// libtirpc for Swift: XDR streams over memory and the messages of RFC 5531. Its stream operations
// are macros over a table of functions, which Swift cannot see, hence the inline functions.
#ifndef SLUICE_CTIRPC_SHIM_H
#define SLUICE_CTIRPC_SHIM_H

#include <rpc/rpc.h>
#include <rpc/xdr.h>
#include <rpc/rpc_msg.h>
#include <rpc/auth_unix.h>

static inline unsigned int sluice_xdr_position(XDR *stream) { return xdr_getpos(stream); }

static inline bool_t sluice_xdr_set_position(XDR *stream, unsigned int position) {
    return xdr_setpos(stream, position);
}

static inline void sluice_xdr_destroy(XDR *stream) { xdr_destroy(stream); }

#endif
