# USER: numbers that no file knows, HOME, groups
FROM base
RUN mkdir -m 1777 /o
USER 4242
RUN id > /o/a; echo "$HOME" >> /o/a
USER 4242:4343
RUN id > /o/b; echo "$HOME" >> /o/b
USER app
RUN id > /o/c; echo "$HOME" >> /o/c
USER app:extra
RUN id > /o/d
USER 1000
RUN id > /o/e; echo "$HOME" >> /o/e
USER root:web
RUN id > /o/f; echo "$HOME" >> /o/f
