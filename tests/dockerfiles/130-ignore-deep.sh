#!/bin/sh
mkdir -p x/a/b x/c y/z
for name in x/a/b/keep.o x/a/b/drop.o x/a/one.o x/c/two.o x/top.o y/z/f1 y/z/f2 y/z/g1 y/k.log k.log; do echo $name > $name; done
printf '%s\n' '**/*.o' '!**/keep.o' 'y/z/f[12]' '*.log' '/strange' 'odd/**' '!odd/with*' 'dir/*' 'Dockerfile' > .dockerignore
find . -exec touch -h -d @1500000000 {} +
