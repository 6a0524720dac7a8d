# Heredocs of COPY and ADD: several, quoted, with tabs, variables, escapes
FROM base
ENV A=a
COPY <<one <<"two" <<-three /h/
$A \$A ${A:-x} "$A" '$A'
one
$A \$A
two
		tabs $A
	  more
	three
COPY --chown=app --chmod=0711 <<EOF /script
#!/bin/sh
echo $A
EOF
ADD <<'EOF' one.txt /add/
x\
y
EOF
COPY <<EOF /empty
EOF
COPY <<EOF ${A}b
last
EOF
