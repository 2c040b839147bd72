package sys

import "golang.org/x/sys/unix"

// ReadFile returns the first max bytes of a file, by plain system calls: package
// os would make its poller first, which every start would pay for. It is for
// small files of the system and blocks as they do.
func ReadFile(path string, max int) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	buf := make([]byte, min(max, 4096))
	n := 0
	for n < max {
		if n == len(buf) {
			buf = append(buf, make([]byte, min(len(buf), max-len(buf)))...)
		}
		got, err := unix.Read(fd, buf[n:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		case got == 0:
			return buf[:n], nil
		default:
			n += got
		}
	}
	return buf[:n], nil
}
