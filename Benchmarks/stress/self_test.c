#include "stress.h"
int self_test(struct options o) { (void)o; return 0; }
