# RUN sees ENV and ARG, not the builder's own
FROM base
ENV HOME=/elsewhere TERM=dumb
ARG A
ARG B=b
RUN echo "$HOME $TERM [$A] $B [$LC_ALL]" > /all
RUN unset HOME; exec env > /dev/null
USER app
RUN echo $HOME > /tmp/home 2> /dev/null || true
