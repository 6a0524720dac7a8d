# Hard links within a step, across steps, and to files of lower layers
FROM base
RUN echo x > /a && ln /a /b
RUN ln /a /c
RUN ln /data/old /data/third
RUN echo changed > /b
RUN chmod 600 /data/old
RUN mkdir /d && cp /bin/cat /d/cat && ln /d/cat /d/tac && ln /d/cat /aaa
COPY dir /e/
RUN rm /d/cat
