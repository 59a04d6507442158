// The OpenBao server of the lab. OpenBao's own module cannot be had as a Go module, so this is a server over the packages of
// Vault 1.14, from which OpenBao was forked and whose API it keeps: file storage, seal with Shamir shares, KV v2, AppRole, file audit.
//
//	bao server [-config FILE-OR-DIRECTORY]   settings also from BAO_LOCAL_CONFIG or VAULT_LOCAL_CONFIG, JSON as the server itself takes them
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/audit"
	auditFile "github.com/hashicorp/vault/builtin/audit/file"
	"github.com/hashicorp/vault/builtin/credential/approle"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	physicalFile "github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/vault"
)

// settings are those of the server's configuration that this one knows; any other is an error.
type settings struct {
	Storage struct {
		File struct {
			Path string `json:"path"`
		} `json:"file"`
	} `json:"storage"`
	Listener        listeners `json:"listener"`
	DefaultLeaseTTL string    `json:"default_lease_ttl"`
	MaxLeaseTTL     string    `json:"max_lease_ttl"`
	APIAddr         string    `json:"api_addr"`
	DisableMlock    bool      `json:"disable_mlock"`
	UI              bool      `json:"ui"`
	LogLevel        string    `json:"log_level"`
}

type tcp struct {
	Address    string      `json:"address"`
	TLSDisable json.Number `json:"tls_disable"`
}

// listeners takes one listener or a list of them, as the server does.
type listeners []tcp

func (l *listeners) UnmarshalJSON(data []byte) error {
	type one struct {
		TCP struct {
			Address    string `json:"address"`
			TLSDisable any    `json:"tls_disable"`
		} `json:"tcp"`
	}
	var many []one
	if err := json.Unmarshal(data, &many); err != nil {
		var single one
		if err := json.Unmarshal(data, &single); err != nil {
			return err
		}
		many = []one{single}
	}
	for _, each := range many {
		disabled := strings.ToLower(fmt.Sprint(each.TCP.TLSDisable))
		if disabled != "true" && disabled != "1" {
			return errors.New("listener.tcp: this server speaks plain HTTP only; set tls_disable")
		}
		*l = append(*l, tcp{Address: each.TCP.Address})
	}
	return nil
}

func readSettings(config string) (settings, error) {
	texts := []string{os.Getenv("VAULT_LOCAL_CONFIG"), os.Getenv("BAO_LOCAL_CONFIG")}
	if config != "" {
		files := []string{config}
		if info, err := os.Stat(config); err != nil {
			return settings{}, err
		} else if info.IsDir() {
			files, _ = filepath.Glob(filepath.Join(config, "*.json"))
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return settings{}, err
			}
			texts = append(texts, string(text))
		}
	}
	var read settings
	for _, text := range texts {
		if text == "" {
			continue
		}
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&read); err != nil {
			return settings{}, fmt.Errorf("the configuration cannot be read: %w", err)
		}
	}
	if read.Storage.File.Path == "" || len(read.Listener) == 0 {
		return settings{}, errors.New("the configuration lacks storage.file.path or a listener")
	}
	return read, nil
}

func lease(text string, otherwise time.Duration) (time.Duration, error) {
	if text == "" {
		return otherwise, nil
	}
	return time.ParseDuration(text)
}

func run(config string) error {
	read, err := readSettings(config)
	if err != nil {
		return err
	}
	defaultTTL, err := lease(read.DefaultLeaseTTL, 32*24*time.Hour)
	if err != nil {
		return err
	}
	maxTTL, err := lease(read.MaxLeaseTTL, 32*24*time.Hour)
	if err != nil {
		return err
	}
	level := hclog.LevelFromString(read.LogLevel)
	if level == hclog.NoLevel {
		level = hclog.Info
	}
	logger := hclog.New(&hclog.LoggerOptions{Level: level, Output: os.Stdout})
	storage, err := physicalFile.NewFileBackend(map[string]string{"path": read.Storage.File.Path}, logger.Named("storage"))
	if err != nil {
		return err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:           storage,
		Logger:             logger.Named("core"),
		DisableMlock:       true,
		RedirectAddr:       read.APIAddr,
		DefaultLeaseTTL:    defaultTTL,
		MaxLeaseTTL:        maxTTL,
		LogicalBackends:    map[string]logical.Factory{"kv": kv.Factory},
		CredentialBackends: map[string]logical.Factory{"approle": approle.Factory},
		AuditBackends:      map[string]audit.Factory{"file": auditFile.Factory},
		BuiltinRegistry:    noPlugins{},
	})
	if err != nil {
		return err
	}
	handler := vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{}})
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, len(read.Listener))
	for _, each := range read.Listener {
		listener, err := net.Listen("tcp", each.Address)
		if err != nil {
			return err
		}
		logger.Info("listening", "address", each.Address)
		go func() { failed <- server.Serve(listener) }()
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err := <-failed:
		return err
	case <-asked:
	}
	logger.Info("sealed for shutdown")
	soon, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = server.Shutdown(soon)
	return core.Shutdown()
}

// noPlugins is a catalogue of built-in plugins with nothing in it.
type noPlugins struct{}

func (noPlugins) Contains(string, consts.PluginType) bool { return false }
func (noPlugins) Get(string, consts.PluginType) (func() (interface{}, error), bool) {
	return nil, false
}
func (noPlugins) Keys(consts.PluginType) []string { return nil }
func (noPlugins) DeprecationStatus(string, consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Unknown, false
}

func main() {
	flags := flag.NewFlagSet("bao", flag.ExitOnError)
	config := flags.String("config", "", "file or directory of the configuration, JSON")
	if len(os.Args) < 2 || os.Args[1] != "server" {
		fmt.Fprintln(os.Stderr, "usage: bao server [-config FILE-OR-DIRECTORY]")
		os.Exit(2)
	}
	_ = flags.Parse(os.Args[2:])
	if err := run(*config); err != nil {
		fmt.Fprintln(os.Stderr, "bao:", err)
		os.Exit(1)
	}
}
