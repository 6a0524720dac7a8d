# COPY: documents as files, expanded or not
FROM base
ENV A=b
COPY <<one <<'two' /doc/
$BASE $A ${NONE:-default} \$A "quotes"
one
$BASE
two
COPY <<-END /tabs
	tab $A
		two
	END
COPY --chown=app:web --chmod=0750 <<script /bin/script
#!/bin/sh
echo $A
script
COPY one.txt <<"inline" two.txt /mixed/
in line
inline
ADD <<added /added
x
added
COPY <<empty /empty
empty
