# Continued lines in every instruction, comments and blank lines within
FROM \
  base
ENV A=1 \
# a comment
    B=2 \
    # another

    C="3 \
 4"
LABEL a="b" \
  c=d
RUN echo $A \
# comment
&& echo "$B \
$C" > /x
COPY one.txt \
  two.txt \
  /several/
CMD ["a", \
  "b"]
