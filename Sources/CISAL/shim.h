#ifndef SLUICE_CISAL_SHIM_H
#define SLUICE_CISAL_SHIM_H
#include <isa-l.h>
#endif
