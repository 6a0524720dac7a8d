#!/bin/sh
mkdir signs
for name in ü 日本 'a  b' '-dash' '~tilde' "quote'" 'q"' '$x' 'back\slash' $(printf 'n%0200d' 1); do echo x > "signs/$name"; done
find . -exec touch -h -d @1500000000 {} +
