# SPDX-License-Identifier: GPL-2.0-or-later
# Shared by proof and its stages: steps, virsh, the guest's console.
state=/var/lib/perennial-lab
out=/tmp/out serial=/srv/guest/guest.serial from=0
mkdir -p $state /tmp/xml
tests=$(cat $state/tests 2>/dev/null || echo 0)
export LIBVIRT_DEFAULT_URI=qemu:///system LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

# check NAME COMMAND...: one step; of one that fails, all that there is to know.
check()
{
    tests=$((tests + 1)) name=$1
    echo $tests >$state/tests
    shift
    if "$@"; then
        echo "ok $tests $name"
    else
        why
        echo "not ok $tests $name"
    fi
}

# An indent keeps what others say from looking like a step.
quote()
{
    sed 's/\x1b\[[0-9;?=]*[A-Za-z]//g; s/\r//g; s/^/    /'
}

why()
{
    echo "# why $name failed: the last output, the guest's console, QEMU, libvirt"
    tail -n 20 $out 2>/dev/null | quote
    echo "# $serial"
    heard | grep -v 'guest: alive' | tail -n 20 | quote
    echo "# /var/log/libvirt/qemu/guest.log"
    tail -n 8 /var/log/libvirt/qemu/guest.log 2>/dev/null | quote
    echo "# journal"
    journalctl -b -n 100 --no-pager -o cat 2>/dev/null |
        grep -v 'apparmor="STATUS"' | tail -n 25 | quote
}

# said WORDS...: each is in what was printed last (basic regular expressions).
said()
{
    for word
    do
        grep -q -e "$word" $out || { echo "    (no $word)"; return 1; }
    done
}

# typed WORDS...: as a user would
typed()
{
    printf '#'
    for word
    do
        case $word in
        *[\{\&\ ]*) printf " '%s'" "$word" ;;
        *) printf ' %s' "$word" ;;
        esac
    done
    echo
}

# run COMMAND...: as typed, with its output, at most 40 lines of it.
run()
{
    typed "$@"
    timeout 600 "$@" >$out 2>&1
    status=$?
    grep -v '^ *$' $out | head -n 40 | quote
    [ $status = 0 ] || echo "    (status $status)"
    return $status
}

# quiet COMMAND...: the same, without its output.
quiet()
{
    typed "$@"
    timeout 600 "$@" >$out 2>&1
}

# wait_for SECONDS COMMAND...: until it is true, in the host's seconds.
wait_for()
{
    left=$1
    shift
    while ! "$@"
    do
        left=$((left - 1))
        [ $left -gt 0 ] || { echo "    (given up: $*)"; return 1; }
        sleep 1
    done
}

# ---- the guest's console ------------------------------------------------

# Forget what it said so far.
fresh()
{
    from=$(stat -c %s $serial 2>/dev/null || echo 0)
}

heard()
{
    tail -c "+$((from + 1))" $serial 2>/dev/null | tr -d '\r'
}

# console PATTERN: was it on the console since fresh?
console()
{
    heard | grep -q -a -e "$1"
}

# guest_says SECONDS PATTERN: shows the line, too.
guest_says()
{
    wait_for "$1" console "$2" && heard | grep -a -m 1 -e "$2" | quote
}

# boots_again: with Secure Boot, and the UEFI variable that it last wrote.
boots_again()
{
    last=$(grep -a -o 'guest: variable is [0-9]*' $serial | tail -n 1 | tr -dc 0-9)
    fresh
    "$@" && guest_says 600 'guest: SecureBoot=1 SetupMode=0' &&
        guest_says 60 "guest: variable was ${last:-none}\$" &&
        guest_says 60 "guest: variable is $((last + 1))\$"
}

alive()
{
    fresh
    wait_for 60 console 'guest: alive'
}

running()
{
    virsh -q domstate "${1:-guest}" 2>/dev/null | grep -q running
}

# Whatever is installed that the project has packages of is the project's.
packaged()
{
    sed -n '/^Package: /h; /^Version: /{H; g; s/Package: \(.*\)\nVersion: /\1 /p}' \
        /srv/apt/Packages | sort >/tmp/ours
    dpkg-query -Wf '${db:Status-Abbrev}${Package} ${Version}\n' |
        sed -n 's/^ii *//p' | sort | join -j 1 -o 2.1,2.2 /tmp/ours - >/tmp/installed
    sort /tmp/installed | comm -13 /tmp/ours - | quote
    [ "$(wc -l </tmp/installed)" -gt 10 ] &&
        [ -z "$(sort /tmp/installed | comm -13 /tmp/ours -)" ]
}

# ---- the host -----------------------------------------------------------

# Drivers are loaded while the rest of the system starts.
ready()
{
    udevadm settle
    wait_for 60 test -c /dev/kvm
    wait_for 120 virsh -q list >/dev/null 2>&1
}

# loaded MODULE FOLDER: what runs is what modprobe would take, of that folder.
# Debian's modules have no srcversion; the linker's build ID tells them apart.
loaded()
{
    file=$(modinfo -F filename "$1")
    xz -dc "$file" >/tmp/module
    wanted=$(readelf -n /tmp/module | sed -n 's/.*Build ID: //p')
    now=$(od -A n -v -t x1 -j 16 "/sys/module/$1/notes/.note.gnu.build-id" |
          tr -d ' \n')
    echo "    $1: $now is loaded"
    echo "    $file: $wanted"
    [ -n "$now" ] && [ "$now" = "$wanted" ] &&
        [ "${file%/*}" = "/lib/modules/$(uname -r)/$2" ]
}
