# Absolute links in the context start there: to a file, to a folder, in the middle of a path, at the end of a pattern
FROM base
COPY to-file /file
COPY to-folder /folder/
COPY to-folder/sub/deep /deep
COPY to-[f]ile to-folde? /pattern/
COPY to-link /again
COPY far /stays/
ADD to-archive /unpacked/
RUN --mount=type=bind,source=to-folder,target=/m cat /m/some > /mounted
