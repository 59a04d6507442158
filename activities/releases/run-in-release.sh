# Runs one command inside a finished release. After "--": SECONDS DIRECTORY PROGRAM ARGUMENT...
prepare_user
read_environment
seconds=$1 directory=$2
shift 2
run_command "$seconds" "${argument[releases]}/${argument[id]}${directory:+/$directory}" "$@"
status=$?
case $status in
  0) ;;
  124 | 137) fail "\`$*\` did not end within $seconds s" ;;
  *) fail_for_space "\`$*\` ended with code $status" ;;
esac
