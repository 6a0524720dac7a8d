# LABEL: several lines, overwritten, empty, with dots
FROM base
LABEL a.b-c/d=1 "e f"="g h" \
      i=j
LABEL a.b-c/d=2 empty= quoted="a\"b" multi="x \
y"
LABEL of=other
MAINTAINER Somebody Else <else@example.org> $PATH
