# COPY: patterns
FROM base
COPY *.txt /stars/
COPY d[ei]r/s[ou]* /class/
COPY one.* tw?.txt /question/
COPY odd/[[]b]racket /bracket/
COPY d*/su* /middle/
COPY dir/s*b/deep /deeper/
COPY e* t* /several/
COPY strange/p* /pipe/
