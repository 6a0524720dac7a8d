# Variables: patterns at both ends and within, escaped and empty
FROM base
ENV V=/usr/local/lib/libx.so.1.2 W=a*b?c EMPTY=
ENV A=${V#/usr} B=${V##*/} C=${V%.*} D=${V%%.*} E=${V%/*}
ENV F=${V/lib/LIB} G=${V//lib/LIB} H=${V/nothing/x} I=${V//\//_} J=${V/lib/}
ENV L=${W#a\*} M=${W/\?/Q} N=${EMPTY#x} O=${EMPTY/x/y} P=${NONE%x} Q=${V#*} R=${V##*} S=${V#??}
ENV T=${V/l*b/X} U=${V%lib*} X=${V%%lib*}
