// libtirpc for Swift: XDR streams over memory and the messages of RFC 5531, rpcbind's client. Its stream operations
// are macros over a table of functions, which Swift cannot see, hence the inline functions.
#ifndef SLUICE_CTIRPC_SHIM_H
#define SLUICE_CTIRPC_SHIM_H

#include <rpc/rpc.h>
#include <rpc/xdr.h>
#include <rpc/rpc_msg.h>
#include <rpc/auth_unix.h>
#include <rpc/rpcb_clnt.h>
#include <netconfig.h>

/* Not "XDR" for Swift, where that is the name of a module. */
typedef XDR xdr_stream;

static inline unsigned int sluice_xdr_position(const XDR *stream) {
    return xdr_getpos((XDR *)stream); /* reads only */
}

/* xdr_replymsg calls the results' routine without asking whether there is one. */
static inline void sluice_set_no_results(struct rpc_msg *reply) {
    reply->acpted_rply.ar_results.where = 0;
    reply->acpted_rply.ar_results.proc = (xdrproc_t)xdr_void;
}

#endif
