// SPDX-License-Identifier: GPL-2.0-or-later

// Command handshake does a TLS handshake with itself, in memory, and prints "handshake ok".
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"time"
)

func certificate() (tls.Certificate, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		DNSNames:              []string{"localhost"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool, nil
}

func run() error {
	cert, pool, err := certificate()
	if err != nil {
		return err
	}
	near, far := net.Pipe()
	go func() {
		server := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{cert}})
		io.Copy(server, server)
	}()
	client := tls.Client(near, &tls.Config{RootCAs: pool, ServerName: "localhost"})
	if _, err := client.Write([]byte("ping")); err != nil {
		return err
	}
	answer := make([]byte, 4)
	if _, err := io.ReadFull(client, answer); err != nil {
		return err
	}
	if string(answer) != "ping" {
		return fmt.Errorf("sent ping, got %q", answer)
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("handshake ok")
}
