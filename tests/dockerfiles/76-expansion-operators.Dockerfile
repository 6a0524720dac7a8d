# Variables: what is cut off, and replaced
FROM base
ENV P=/usr/local/lib/x.tar.gz
ENV A=${P#*/} B=${P##*/} C=${P%.*} D=${P%%.*} E=${P/local/other} F=${P//l/L} G=${P#/usr/}
ENV H="${NONE:-a b}" I=${NONE:-"q"} J=${P:+${A}} K=${NONE-} L=x${NONE}y
RUN echo "$A|$B|$C|$D|$E|$F|$G|$H|$I|$J|$K|$L" > /all
