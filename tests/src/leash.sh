# Ends what a stack started, when the stack's own process ends, however it ends (also by kill -9).
# That process holds our standard input open and writes to it what to watch:
#   watch GROUP     a process group to end
#   release GROUP   it has ended by itself
# At the end of input every watched group is ended, and the folder $1, if any, is removed.
trap '' HUP INT TERM
watched=" "
while read -r verb group; do
    case $verb in
        watch) watched="$watched$group " ;;
        release) watched="${watched%% $group *} ${watched#* $group }" ;;
    esac
done

alive() { for group in $watched; do kill -s 0 -- "-$group" 2>/dev/null && return 0; done; return 1; }

# SIGINT is PostgreSQL's fast shutdown and wrangler's Ctrl-C.
for group in $watched; do kill -s INT -- "-$group" 2>/dev/null; done
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    alive || break
    sleep 0.25
done
for group in $watched; do kill -s KILL -- "-$group" 2>/dev/null; done
if [ -n "$1" ]; then rm -rf -- "$1"; fi
