# A database for an instance that lives for a minute: nothing of it needs to reach a disk, or to outlive a boot.
# Debian's packages, unpacked and not installed, so that nothing of theirs gets among what is tested; without the compiler,
# which is most of them, and which so little data never calls.
set -eu
cd "$RUNTIME_DIRECTORY"
apt-get --quiet=2 -o Acquire::Retries=5 update
wanted=$(apt-get --simulate --no-install-recommends install postgresql-17 | sed -n 's/^Inst \([^ ]*\) .*/\1/p' | grep -Ev '^lib(llvm|z3)')
# Nobody but root may write here, so nobody else downloads.
apt-get --quiet=2 -o APT::Sandbox::User=root -o Acquire::Retries=5 download $wanted
for package in *.deb; do
  dpkg-deb --extract "$package" .
done

export PATH="$PWD/usr/lib/postgresql/17/bin:$PATH" LD_LIBRARY_PATH="$PWD/usr/lib/x86_64-linux-gnu"
# PostgreSQL refuses to be root.
as_daemon() {
  setpriv --reuid=daemon --regid=daemon --clear-groups "$@"
}
install --directory --owner=daemon data
as_daemon initdb --no-sync --no-instructions --auth=trust --username=postgres --locale=C.UTF-8 --pgdata=data
as_daemon postgres --single -D data -F -c exit_on_error=on postgres <<'SQL'
CREATE ROLE signup LOGIN PASSWORD 'fresh';
CREATE DATABASE signup OWNER signup;
SQL
exec setpriv --reuid=daemon --regid=daemon --clear-groups \
  postgres -D data -F -c jit=off -c listen_addresses=127.0.0.1 -c unix_socket_directories=
