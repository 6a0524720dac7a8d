# escape=`
# A byte order mark, then a directive
FROM base
RUN echo one `
  two > /out
