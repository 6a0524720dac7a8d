# An ENV is stronger than an ARG of its name; a secret in an ARG is in the history
# build: --build-arg BOTH=argument --build-arg LATE=given
FROM base
ENV BOTH=environment
ARG BOTH=default
ARG LATE=default
RUN echo "$BOTH $LATE" > /one
ENV LATE=$LATE-kept
RUN echo "$BOTH $LATE" > /two
ARG EMPTY=
ARG UNSET
RUN echo "[$EMPTY][$UNSET][${EMPTY:-e}][${UNSET-u}]" > /three
