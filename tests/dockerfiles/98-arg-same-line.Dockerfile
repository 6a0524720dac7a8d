# ARG and ENV: what an instruction sets is not seen in it; before FROM it is
ARG GA=ga GB=$GA
FROM base
ARG GA
ARG GB
ARG C=c D=$C
ARG C=c2 E=$C
ENV F=f G=$F H=$C
ARG D=again
LABEL l=$G$D
RUN echo "[$GA] [$GB] [$C] [$D] [$E] [$F] [$G] [$H]" > /all
