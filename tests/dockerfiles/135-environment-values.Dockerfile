# ENV: equals signs, hashes, quotes, continued, many in one
FROM base
ENV A=b=c D=#x E="a # b" F=a\
 G=h \
  # a comment
  I='j k' \

  J="l\
 m"
ENV K="a'b" L='a"b' M="tab	here" N=ü O=
ENV PATH=$PATH:/x A=again
RUN echo "$A|$D|$E|$F|$G|$I|$J|$K|$L|$M|$N|$O|$PATH" > /all
