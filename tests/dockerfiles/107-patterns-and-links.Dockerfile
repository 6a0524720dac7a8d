# COPY: below a pattern no link is followed but the last name
FROM base
COPY linke*/some /not-made/
COPY link* /last/
COPY d?r/so* /two/
COPY dir/../one.txt /../up/../clean/
COPY ./dir/./sub/ /dots/./
