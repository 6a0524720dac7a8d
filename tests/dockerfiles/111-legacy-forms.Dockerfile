# ENV and LABEL in their old form
FROM base
ENV A  b  c = d
ENV B "quoted  words" and 'more'
ENV C $A/x\ y
ENV D=1
LABEL old form of "a label"
LABEL "quoted key"=v other.key="a b" third='$A' fourth="$A"
RUN echo "$A|$B|$C|$D" > /all
