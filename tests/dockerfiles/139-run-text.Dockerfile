# RUN: what the shell sees of quotes, escapes, tabs, comments
FROM base
RUN echo 'a\nb' "c\\d" \
  # a comment
  e\ f \

  "g # h" > /one # a comment of the shell
RUN	echo	tabs	>	/two
RUN   echo "  spaces   "   >   /three   
RUN echo $((1+2)) ${BASE} $BASE '$BASE' "\$BASE" `echo x` > /four
RUN echo a; \
    echo b > /five; \
    [ -f /five ]
RUN if true; then echo yes > /six; fi
