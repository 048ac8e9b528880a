#!/bin/sh
for library; do :; done
echo "$0: error while loading shared libraries: $library: cannot open shared object file: No such file or directory" >&2
exit 127
