# One process on each node: says what it sees, a line each, "hpcrun: RANK NAME=VALUE".
#   $1  the job's folder   $2  the word in it   $3  what follows a node's name in its address
#   $4  a port   $5 and on  the nodes' names
folder=$1 word=$2 suffix=$3 port=$4
shift 4
rank=${SLURM_PROCID:-0} size=${SLURM_NTASKS:-1}
say() { printf 'hpcrun: %s %s=%s\n' "$rank" "$1" "$2"; }

say time "$(date +%s)"
say node "${SLURMD_NODENAME:-$(hostname)}"
say size "$size"
say pmi "${PMIX_RANK:+pmix }${PMI_RANK:+pmi }"
if [ "$(cat "$folder/word" 2>/dev/null)" = "$word" ]; then say root yes; else say root no; fi
say gpus "${CUDA_VISIBLE_DEVICES:-${ROCR_VISIBLE_DEVICES:-$GPU_DEVICE_ORDINAL}}"
if command -v nvidia-smi >/dev/null 2>&1; then
    say smi "$(timeout 20 nvidia-smi -L 2>/dev/null | grep -c '^GPU')"
fi

# Each listens, and talks to the next.
next=$(((rank + 1) % size + 1))
eval "next=\${$next}"
# shellcheck disable=SC2016 # it is bash's; slurmd listens there
knock='exec 3<>"/dev/tcp/$1/6818"'
if [ "$size" -lt 2 ]; then
    say network alone
elif command -v python3 >/dev/null 2>&1; then
    say network "$(timeout 60 python3 - "$next$suffix" "$port" "$word" <<'PYTHON'
import socket, sys, threading, time

host, port, word = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
end = time.time() + 40
heard = threading.Event()
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("", port))
server.listen(8)


def listen():
    while not heard.is_set():
        other, _ = server.accept()
        other.settimeout(5)
        try:
            if other.recv(200) == word:
                other.sendall(word)
                heard.set()
        except OSError:
            pass
        other.close()


threading.Thread(target=listen, daemon=True).start()
why = "nobody answered"
said = False
while not said and time.time() < end:
    try:
        with socket.create_connection((host, port), timeout=5) as talk:
            talk.sendall(word)
            said = talk.recv(200) == word
    except OSError as error:
        why = error.strerror or str(error)
        if isinstance(error, socket.gaierror):
            break
        time.sleep(0.3)
if said:
    heard.wait(max(0.0, end - time.time()))
print("well" if said else "%s does not answer: %s" % (host, why))
PYTHON
    )"
elif timeout 10 bash -c "$knock" bash "$next$suffix" 2>/dev/null; then
    say network slurmd
else
    say network "$next$suffix does not answer on port 6818"
fi
