# Variables in variables, quotes, escapes
FROM base
ENV A=a B= C="c d"
ENV N1=${X:-${Y:-$A}} N2=${A:+${C}} N3=${B:-"q r"} N4=${B-unset} N5=${X+set}
ENV Q1='$A' Q2="$A" Q3=\$A Q4="\$A" Q5="a\"b" Q6='a"b' Q7=a\ b Q8="a\tb" Q9=\\$A
ENV E1=$A$B$C E2=${A}x E3=$Ax E4=$ E5=$. E6="$" E7=${C} E8=x${X}y
RUN env | cat > /dev/null; echo "$N1|$N2|$N3|$N4|$N5" > /n; echo "$Q1|$Q2|$Q3|$Q4|$Q5|$Q6|$Q7|$Q8|$Q9" > /q; echo "$E1|$E2|$E3|$E4|$E5|$E6|$E7|$E8" > /e
