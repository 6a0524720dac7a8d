# In one instruction variables are those from before it
FROM base
ENV abc=hello
ENV abc=bye def=$abc
ENV ghi=$abc
LABEL def=$def ghi=$ghi
RUN echo "$abc $def $ghi" > /all
