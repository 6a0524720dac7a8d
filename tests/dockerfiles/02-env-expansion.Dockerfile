# ENV: quotes, escapes, defaults and alternatives
FROM base
ENV A=b C="$BASE-${A}" D='$A' E=\$A
ENV F one two  three
ENV G="a b" H=a\ b I="with \"quotes\"" J='single "double"'
ENV K=${A:-unset} L=${NONE:-default} M=${A:+alternative} N=${NONE:+nothing} O=${NONE-x} P=${A+y}
ENV Q=${NONE:-${A:-nested}} R="${A}${A}" S=$A$A T=$A-x U=${A}_x V="" W=''
ENV X=a$ Y="$" Z=$$
ENV BASE=changed PATH=$PATH:/more
RUN unset HOSTNAME; env > /env; echo "$A|$C|$D|$E|$F" > /all
CMD echo $A ${A}
