# ADD: archives of every compression are unpacked
FROM base
ADD plain.tar /plain
ADD packed.tar.gz /gz/
ADD packed.tar.xz packed.tar.bz2 /both/
ADD plain.tar /
ADD plain.t* /by-pattern
ADD dotted.tar /dotted/deep
COPY plain.tar /as-it-is/
