# check=skip=all;error=true
# other=x
# escape=`
# Directives: check is none of the builder's, another one ends them
FROM base
RUN echo one \
 && echo two > /both
