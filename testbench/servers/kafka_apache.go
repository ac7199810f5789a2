package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/tandem-dc/tandem/shared/kafkaconn"
	"github.com/tandem-dc/tandem/testbench/port"
)

const (
	kafkaVersion = "4.1.0"
	// kafkaCluster is the same for all brokers: they never meet.
	kafkaCluster = "dGFuZGVtLXRlc3RiZW5jaA"
)

type apache struct {
	*Process
	port int
}

func startApache(ctx context.Context, dir string, maxMessageBytes int) (broker, error) {
	classpath, err := apacheJars()
	if err != nil {
		return nil, err
	}
	java, err := exec.LookPath("java")
	if err != nil {
		return nil, fmt.Errorf("no java 17 for Apache Kafka, install it with `testbench/install.sh kafka`: %w", err)
	}
	settings := filepath.Join(dir, "server.properties")
	logging := filepath.Join(dir, "log4j2.properties")
	if err := os.WriteFile(logging, []byte(log4jSettings), 0o644); err != nil {
		return nil, err
	}
	// Small, and quick to start: two of them and two databases share a laptop.
	jvm := []string{"-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Dlog4j2.configurationFile=" + logging, "-cp", classpath}
	formatted := false
	for attempt := 1; ; attempt++ {
		clients, err := port.Reserve()
		if err != nil {
			return nil, err
		}
		controller, err := port.Reserve()
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(settings, []byte(apacheSettings(dir, clients, controller, maxMessageBytes)), 0o644); err != nil {
			return nil, err
		}
		if !formatted {
			if err := formatStorage(ctx, java, jvm, settings); err != nil {
				return nil, err
			}
			formatted = true
		}
		p, err := StartProcess(Command{
			Name: "kafka", Path: java, Args: append(append([]string{}, jvm...), "kafka.Kafka", settings),
			Dir: dir, Log: kafkaLog(dir),
		})
		if err != nil {
			return nil, err
		}
		a := &apache{Process: p, port: clients}
		if err = a.waitReady(ctx); err == nil {
			return a, nil
		}
		taken := !a.Running() && portTaken(a.Tail(200))
		if kill := a.Kill(); kill != nil || !taken || attempt == 5 {
			return nil, err
		}
	}
}

func apacheJars() (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "kafka-"+kafkaVersion)
	if jars, err := filepath.Glob(filepath.Join(dir, "kafka_*.jar")); err != nil || len(jars) == 0 {
		return "", fmt.Errorf("no Apache Kafka %s in %s, fetch it with `testbench/install.sh kafka`", kafkaVersion, dir)
	}
	return filepath.Join(dir, "*"), nil // java's own wildcard
}

func apacheSettings(dir string, clients, controller, maxMessageBytes int) string {
	settings := []string{
		"process.roles=broker,controller",
		"node.id=1",
		"controller.quorum.voters=1@" + port.Addr(controller),
		"listeners=PLAINTEXT://" + port.Addr(clients) + ",CONTROLLER://" + port.Addr(controller),
		"advertised.listeners=PLAINTEXT://" + port.Addr(clients),
		"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"controller.listener.names=CONTROLLER",
		"inter.broker.listener.name=PLAINTEXT",
		"log.dirs=" + filepath.Join(dir, "data"),
		"auto.create.topics.enable=false",
		"min.insync.replicas=1",
		"offsets.topic.replication.factor=1",
		"offsets.topic.num.partitions=1",
		"transaction.state.log.replication.factor=1",
		"transaction.state.log.min.isr=1",
		"share.coordinator.state.topic.replication.factor=1",
		"share.coordinator.state.topic.min.isr=1",
		"group.initial.rebalance.delay.ms=0",
		"log.cleaner.dedupe.buffer.size=16777216", // the default is a third of our heap
		// A killed broker may register again only when its last session has run out.
		"broker.heartbeat.interval.ms=500",
		"broker.session.timeout.ms=2000",
	}
	if maxMessageBytes > 0 {
		settings = append(settings, fmt.Sprintf("message.max.bytes=%d", maxMessageBytes))
	}
	return strings.Join(settings, "\n") + "\n"
}

const log4jSettings = `status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
`

func formatStorage(ctx context.Context, java string, jvm []string, settings string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	args := append(append([]string{}, jvm...), "kafka.tools.StorageTool", "format", "--cluster-id", kafkaCluster, "--config", settings, "--ignore-formatted")
	if out, err := exec.CommandContext(ctx, java, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("format kafka's storage: %w\n%s", err, out)
	}
	return nil
}

// waitReady waits until the broker takes part in its own cluster, which is
// after its port opens.
func (a *apache) waitReady(ctx context.Context) error {
	dialer, err := kafkaconn.Config{Brokers: []string{a.Bootstrap()}, DialTimeout: time.Second}.Dialer()
	if err != nil {
		return err
	}
	return a.WaitReady(ctx, startLimit, func(ctx context.Context) error {
		conn, err := dialer.DialContext(ctx, "tcp", a.Bootstrap())
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		brokers, err := conn.Brokers()
		if err == nil && len(brokers) == 0 {
			err = errors.New("the broker is not registered yet")
		}
		return err
	})
}

func (a *apache) restart(ctx context.Context) error {
	if err := a.Start(); err != nil {
		return err
	}
	return a.waitReady(ctx)
}

func (a *apache) Bootstrap() string { return port.Addr(a.port) }
