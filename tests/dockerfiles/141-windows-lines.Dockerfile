# Lines that end as on Windows
FROM base
ENV A=a \
    B=b
RUN echo $A$B > /ab
COPY <<EOF /doc
line
EOF
CMD ["x"]
