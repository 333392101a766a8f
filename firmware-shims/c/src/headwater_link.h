/* Arduino looks for headers in src/ only. */
#include "../include/headwater_link.h"
