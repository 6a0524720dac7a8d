# USER and what COPY, ADD and WORKDIR make
FROM base
USER app:extra
COPY one.txt dir /of-root/
ADD plain.tar /unpacked/
WORKDIR /of-app
COPY --chown=app one.txt .
RUN touch mine && mkdir -p below/it && ln mine hard
USER 5
WORKDIR below
