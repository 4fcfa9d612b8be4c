# Runs the image's entrypoint with a program in Spin's place, which prints its limit and arguments. In the folder $1.
mkdir -p $1 && cat > $1/spin <<'END'
#!/bin/sh
echo $(ulimit -S -n) "$@"
trap 'echo ended after $(($(date +%s) - now)) s; exit 3' TERM
for second in 1 2 3 4 5 6 7 8 9; do [ "$3" = once ] || sleep 1; done
exit 7
END
chmod +x $1/spin
ulimit -S -n 64 && ulimit -H -n 512
export PATH=$1:$PATH now=$(date +%s)
sh deploy/image/entrypoint.sh up --from once || echo status $?
sh deploy/image/entrypoint.sh up --from x & entrypoint=$!
sleep 1 && kill -TERM $entrypoint
wait $entrypoint || echo status $?
rm -r $1
