export HOME=/root PATH=/bin TERM=vt100 PS1='\h:\w# '
cd /root
