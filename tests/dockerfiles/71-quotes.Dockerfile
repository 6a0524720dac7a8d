# Quotes and backslashes in every place
FROM base
ENV A='a\nb' B="a\nb" C=a\nb D="\"" E='"' F="a\\b" G=a\\b
ENV H "quoted value" with 'more'
ENV I=a"b"'c'd
LABEL "x.y"="z" w="a\"b" v='$A' u="$A" t=\$A
RUN echo "$A|$B|$C|$D|$E|$F|$G|$H|$I" > /all
RUN ["/bin/sh", "-c", "echo \"$A\" 'b\\c' > /exec"]
COPY ["one.txt", "/a \"quoted\" name"]
WORKDIR /a\ b
RUN pwd > here
CMD echo "a" 'b' \
  c
