# escape=`
# Another escape character
FROM base
ENV A=`$BASE B=C:\dir
RUN echo one `
  two \\ > /one
COPY one.txt `
  /c
LABEL x="a`
b"
