package sandbox

// What every command of `run` may use. It names nothing that belongs to a user,
// and nothing of /etc that may hold a secret.
var (
	systemTrees = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store", "/snap", "/gnu/store",
		"/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/kernel/mm/transparent_hugepage", "/sys/fs/cgroup"}
	settings = []string{"ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ld.so.preload", "ld-musl-x86_64.path", "ld-musl-aarch64.path", "nsswitch.conf", "passwd", "group", "hosts", "hostname", "resolv.conf",
		"host.conf", "gai.conf", "services", "protocols", "networks", "rpc", "ethertypes", "localtime", "timezone", "adjtime", "locale.alias", "locale.conf", "default/locale", "os-release", "lsb-release",
		"debian_version", "alpine-release", "redhat-release", "system-release", "machine-info", "shells", "login.defs", "environment", "profile", "profile.d", "bash.bashrc", "bashrc", "bash_completion",
		"bash_completion.d", "zsh", "inputrc", "terminfo", "DIR_COLORS", "nanorc", "vim", "mailcap", "mime.types", "magic", "magic.mime", "papersize", "fonts", "alternatives", "ssl/certs", "ssl/openssl.cnf", "ssl/cert.pem",
		"ssl/ca-bundle.pem", "pki/tls/certs", "pki/tls/cert.pem", "pki/tls/openssl.cnf", "pki/ca-trust", "ca-certificates", "ca-certificates.conf", "crypto-policies", "gnutls", "gitconfig", "pip.conf", "npmrc", "wgetrc", "curlrc",
		"python", "python3", "perl", "ruby", "php", "R", "java", "java-8-openjdk", "java-11-openjdk", "java-17-openjdk", "java-21-openjdk", "java-25-openjdk", "maven", "node", "xdg", "gtk-3.0", "ImageMagick-6", "ImageMagick-7",
		"sysconfig/i18n", "manpath.config", "man_db.conf", "subversion/config", "mke2fs.conf", "texmf"}
	devices = []string{"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts/ptmx"}
)

func defaultTrees() []fileTree {
	var out []fileTree
	for _, path := range systemTrees {
		out = append(out, fileTree{path, false, true})
	}
	for _, name := range settings {
		out = append(out, fileTree{"/etc/" + name, false, true})
	}
	for _, name := range devices {
		out = append(out, fileTree{"/dev/" + name, true, true})
	}
	return out
}
