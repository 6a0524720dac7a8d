# RUN in shell and exec form, as many lines, with comments within
FROM base
RUN echo shell > /one; \
  # a comment within
  echo two >> /one

RUN ["/bin/sh", "-c", "echo $BASE > /exec"]
RUN ["/bin/sh", "-c", "echo 'a \"quoted\" word' > /quoted"]
RUN echo a   \
     b \

  c > /blank-line-within
run echo lower > /lower
RUN	echo "tab $(pwd)" > /tab
