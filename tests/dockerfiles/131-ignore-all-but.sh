#!/bin/sh
printf '%s\n' '*' '!dir/sub' '!one.txt' '!missing' 'dir/sub/none' '!strange/' 'strange/secret' > .dockerignore
find . -exec touch -h -d @1500000000 {} +
