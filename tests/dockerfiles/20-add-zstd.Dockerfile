# ADD: zstd
FROM base
ADD packed.tar.zst /zst/
