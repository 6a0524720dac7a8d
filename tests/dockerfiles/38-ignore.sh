#!/bin/sh
mkdir -p out/kept node/node docs dir/c
for name in a.md keep.md dir/b.md dir/c/d.tmp dir/c/e out/x out/kept/y node/node/z docs/1 docs/2 .hidden temp1 tempx; do echo $name > $name; done
cat > .dockerignore << 'END'
# comment
*.md
!keep.md
**/*.tmp
out
!out/kept
/node/n?de/
docs/[1]
  temp?  

./odd
dir/../two.txt
Dockerfile
.dockerignore
strange/*
!strange/program
END
find . -exec touch -h -d @1500000000 {} +
