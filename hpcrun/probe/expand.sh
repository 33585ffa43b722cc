expand() { # PATH: ~ and variables are put in, and nothing is carried out
    left=$1 done=''
    case $left in
    '~') left=$HOME ;;
    '~'/*) left=$HOME${left#'~'} ;;
    esac
    while :; do
        case $left in
        *'$'*)
            done=$done${left%%'$'*}
            left=${left#*'$'}
            case $left in
            '{'*'}'*)
                variable=${left#'{'}
                variable=${variable%%'}'*}
                left=${left#*'}'}
                ;;
            *)
                variable=${left%%[!A-Za-z0-9_]*}
                left=${left#"$variable"}
                ;;
            esac
            done=$done$(printenv "$variable") || done=$done'$'$variable
            ;;
        *)
            printf '%s\n' "$done$left"
            return
            ;;
        esac
    done
}
