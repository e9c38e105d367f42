// etcd (Debian: etcd-server) under the same load as ours, through its own Go client (Debian: golang-etcd-server-dev): three
// servers on loopback, the client speaks to the leader over eight connections.
//
//	etcd put|get DIR BYTES WINDOW WARM SECONDS    prints one line of key=value
//	etcd kill DIR RUNS ELECTION_MS                kills the leader: ms until the next commit, one a line
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/clientv3"
)

const servers, connections = 3, 8

type server struct {
	process  *exec.Cmd
	words    []string
	endpoint string
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		os.Exit(1)
	}
}

func (s *server) start() {
	s.process = exec.Command("etcd", s.words...)
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(s.process.Start())
}

func (s *server) kill() {
	s.process.Process.Kill()
	s.process.Wait()
}

// Ports that nobody listens on.
func ports(n int) []int {
	var list []int
	for len(list) < n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		defer l.Close()
		list = append(list, l.Addr().(*net.TCPAddr).Port)
	}
	return list
}

func startAll(dir string, electionMs int) []*server {
	free := ports(2 * servers)
	var members []string
	for i := 0; i < servers; i++ {
		members = append(members, fmt.Sprintf("s%d=http://127.0.0.1:%d", i, free[servers+i]))
	}
	var all []*server
	for i := 0; i < servers; i++ {
		client, peer := fmt.Sprintf("http://127.0.0.1:%d", free[i]), fmt.Sprintf("http://127.0.0.1:%d", free[servers+i])
		s := &server{endpoint: fmt.Sprintf("127.0.0.1:%d", free[i]), words: []string{
			"--name", fmt.Sprintf("s%d", i), "--data-dir", filepath.Join(dir, strconv.Itoa(i)),
			"--listen-client-urls", client, "--advertise-client-urls", client,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(members, ","), "--initial-cluster-state", "new",
			"--election-timeout", strconv.Itoa(electionMs), "--heartbeat-interval", strconv.Itoa(electionMs / 10),
			"--quota-backend-bytes", "8589934592", "--logger", "zap", "--log-level", "error"}}
		s.start()
		all = append(all, s)
	}
	return all
}

func dial(endpoint string) *clientv3.Client {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 5 * time.Second})
	must(err)
	return c
}

// The place of the server that leads.
func findLeader(all []*server) int {
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
		for i, s := range all {
			c := dial(s.endpoint)
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			status, err := c.Status(ctx, s.endpoint)
			cancel()
			c.Close()
			if err == nil && status.Leader != 0 && status.Leader == status.Header.MemberId {
				return i
			}
		}
	}
	must(fmt.Errorf("there is no leader"))
	return -1
}

// CPU seconds that a process has used.
func cpu(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(err)
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return float64(user+system) / 100
}

func cpuOf(all []*server) (sum float64) {
	for _, s := range all {
		sum += cpu(s.process.Process.Pid)
	}
	return
}

// window callers, each with one call under way at a time.
func load(all []*server, get bool, size, window int, warm, duration time.Duration) {
	leader := findLeader(all)
	var clients []*clientv3.Client
	for i := 0; i < connections && i < window; i++ {
		clients = append(clients, dial(all[leader].endpoint))
	}
	value, background := strings.Repeat("x", size), context.Background()
	_, err := clients[0].Put(background, "key 0", value)
	must(err)
	from := time.Now().Add(warm)
	to := from.Add(duration)
	took := make([][]time.Duration, window)
	var all_done sync.WaitGroup
	for i := 0; i < window; i++ {
		all_done.Add(1)
		go func(i int) {
			defer all_done.Done()
			client := clients[i%len(clients)]
			for n := 0; time.Now().Before(to); n++ {
				var err error
				begin := time.Now()
				if get {
					_, err = client.Get(background, "key 0")
				} else {
					_, err = client.Put(background, fmt.Sprintf("key %d", (i*7919+n)%100000), value)
				}
				must(err)
				if end := time.Now(); begin.After(from) && end.Before(to) {
					took[i] = append(took[i], end.Sub(begin))
				}
			}
		}(i)
	}
	time.Sleep(time.Until(from))
	before, own := cpuOf(all), cpu(os.Getpid())
	time.Sleep(time.Until(to))
	servers_cpu, client_cpu := cpuOf(all)-before, cpu(os.Getpid())-own
	all_done.Wait()
	var every []time.Duration
	for _, list := range took {
		every = append(every, list...)
	}
	sort.Slice(every, func(i, j int) bool { return every[i] < every[j] })
	n := float64(len(every))
	fmt.Printf("per_second=%.0f p50_us=%d p99_us=%d cpu_us=%.1f client_cpu_us=%.1f\n", n/duration.Seconds(),
		every[len(every)/2].Microseconds(), every[len(every)*99/100].Microseconds(), servers_cpu/n*1e6, client_cpu/n*1e6)
}

// Until a put succeeds at one of the survivors; a new try every 5 ms, none waits for another.
func firstCommit(survivors []*clientv3.Client) time.Time {
	done := make(chan time.Time, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for {
		for _, c := range survivors {
			go func(c *clientv3.Client) {
				if _, err := c.Put(ctx, "key", "value"); err == nil {
					select {
					case done <- time.Now():
					default:
					}
				}
			}(c)
		}
		select {
		case at := <-done:
			return at
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func killLeaders(all []*server, runs, electionMs int) {
	for run := 0; run < runs; run++ {
		leader := findLeader(all)
		time.Sleep(time.Duration(electionMs*3/2+500) * time.Millisecond)
		var survivors []*clientv3.Client
		for i, s := range all {
			if i != leader {
				c := dial(s.endpoint)
				_, err := c.Put(context.Background(), "key", "value")
				must(err)
				survivors = append(survivors, c)
			}
		}
		begin := time.Now()
		all[leader].kill()
		fmt.Printf("ms=%.1f\n", firstCommit(survivors).Sub(begin).Seconds()*1e3)
		for _, c := range survivors {
			c.Close()
		}
		all[leader].start()
		time.Sleep(time.Second)
	}
}

func number(i int) int {
	n, err := strconv.Atoi(os.Args[i])
	must(err)
	return n
}

func duration(i int) time.Duration {
	s, err := strconv.ParseFloat(os.Args[i], 64)
	must(err)
	return time.Duration(s * float64(time.Second))
}

func main() {
	runtime.LockOSThread() // the servers die with the thread that started them
	what, electionMs := os.Args[1], 1000
	if what == "kill" {
		electionMs = number(4)
	}
	all := startAll(os.Args[2], electionMs)
	time.Sleep(500 * time.Millisecond)
	if what == "kill" {
		killLeaders(all, number(3), electionMs)
	} else {
		load(all, what == "get", number(3), number(4), duration(5), duration(6))
	}
	for _, s := range all {
		s.kill()
	}
}
